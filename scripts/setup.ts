/** `npm run setup [-- --sid]`: installs the real parts that the tests need, and for the benchmark Docker from Debian sid. */

import { TEST_PARTS } from '../__tests__/support/real/parts.ts';
import { setup } from './setup/parts.ts';

const missing = await setup(process.argv.includes('--sid') ? [...TEST_PARTS, 'docker-sid'] : TEST_PARTS);
process.exitCode = missing.length === 0 ? 0 : 1;
