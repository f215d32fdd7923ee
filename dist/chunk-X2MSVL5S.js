import { createRequire as __createRequire } from 'node:module';
const require = __createRequire(import.meta.url);
function freed(output){let{length,buffer}=output;return buffer.byteLength>Buffer.poolSize&&buffer.transfer(0),length}export{freed};
