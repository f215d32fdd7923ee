import { describe, expect, it } from 'vitest';
import { certsFolderOf, certsFolders } from '../../../src/registry/http/trust.ts';

describe('the folders of certificates', () => {
  it('are those of docker and podman on Linux', () => {
    expect(certsFolders({ HOME: '/home/me', XDG_CONFIG_HOME: '/config' }, 'linux')).toEqual([
      '/home/me/.config/containers/certs.d',
      '/config/docker/certs.d',
      '/etc/containers/certs.d',
      '/etc/docker/certs.d',
    ]);
  });

  it('are those of Docker Desktop too on macOS', () => {
    expect(certsFolders({ HOME: '/Users/me' }, 'darwin')).toContain('/Users/me/.docker/certs.d');
  });

  it('are below the profile of the user and the data of all on Windows', () => {
    expect(
      certsFolders({ HOME: '/c/Users/me', USERPROFILE: 'C:\\Users\\me', ProgramData: 'D:\\Data' }, 'win32'),
    ).toEqual([
      'C:\\Users\\me\\.config\\containers\\certs.d',
      'C:\\Users\\me\\.docker\\certs.d',
      'D:\\Data\\docker\\certs.d',
    ]);
  });

  it('are called like the host, on Windows without the colon of a port', () => {
    expect(certsFolderOf('registry.example.com:5000', 'linux')).toBe('registry.example.com:5000');
    expect(certsFolderOf('registry.example.com:5000', 'win32')).toBe('registry.example.com5000');
  });
});
