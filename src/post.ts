/** The action's post step. */
import { runPost } from './action/post.ts';

await runPost();
process.exit();
