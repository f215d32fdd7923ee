/** The most memory that a process held. */
import { readFileSync } from 'node:fs';

const INTERVAL = 50;

/** Watches a process; `stop` gives its peak resident set in bytes, undefined where /proc does not tell. */
export const peakMemoryOf = (pid: number | undefined): { stop(): number | undefined } => {
  let peak: number | undefined;
  // VmHWM is a high-water mark that the kernel keeps: nothing is missed between two looks, only after the last.
  const look = () => {
    try {
      const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
      if (kibibytes !== undefined) peak = Number(kibibytes) * 1024;
    } catch {
      // The process has ended, or this system has no /proc.
    }
  };
  const timer = setInterval(look, INTERVAL);
  return {
    stop: () => {
      clearInterval(timer);
      return peak;
    },
  };
};
