/** What a person starts in an archive. */

/** For Linux and macOS. A symbolic link to it, such as /usr/local/bin/chunked-push, works: the link is followed to the archive's folder. */
export const SHELL_LAUNCHER = `#!/bin/sh
self=$0
while [ -h "$self" ]; do
  link=$(readlink "$self")
  case $link in
    /*) self=$link ;;
    *) self=\${self%/*}/$link ;;
  esac
done
case $self in
  */*) folder=\${self%/*} ;;
  *) folder=. ;;
esac
exec "$folder/node/node" "$folder/dist/cli.js" "$@"
`;

/** For Windows. cmd.exe wants its own line ends. */
export const WINDOWS_LAUNCHER = ['@echo off', '"%~dp0node\\node.exe" "%~dp0dist\\cli.js" %*', ''].join('\r\n');
