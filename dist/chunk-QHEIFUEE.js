function freed(output){let{length,buffer}=output;return buffer.byteLength>Buffer.poolSize&&buffer.transfer(0),length}export{freed};
