var all=process.getBuiltinModule("node:util");var the_promisify=all.promisify;var the_parseArgs=all.parseArgs;export{the_promisify,the_parseArgs};
