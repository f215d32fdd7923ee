/** `npm run setup`: installs the real parts that the tests and the benchmark need. */
import { TEST_PARTS } from '../__tests__/support/real/parts.ts';
import { setup } from './setup/parts.ts';

const missing = await setup(TEST_PARTS);
process.exitCode = missing.length === 0 ? 0 : 1;
