/**
 * Imported first by whatever is a process of its own. The bytes of an image live outside of V8's heap, and what is on it is small and
 * soon forgotten; but V8 takes the traffic for a reason to let its young generation grow to 64 MB and more, and then keeps the
 * memory of dead buffers all the longer. It may not grow: 30 to 45 MB less at the peak of a push of 1.7 GB, in the same CPU time.
 */
import { setFlagsFromString } from 'node:v8';

/**
 * Not at once: V8 takes nothing from a cache that was made under other flags, and Node's own modules lie in one. Compiling them anew
 * takes 35 ms of the processor in this thread, and 75 ms in each that it starts; a push that is over by now has no such traffic.
 */
const FIRST_MS = 1000;

setTimeout(() => setFlagsFromString('--semi-space-growth-factor=1'), FIRST_MS).unref();
