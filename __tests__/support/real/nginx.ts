/** nginx in front of a registry, configured as people do it: with a limit on bodies. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commandOf } from './parts.ts';
import { freePort, isRoot, privateFolder, startServer } from './processes.ts';

export interface NginxOptions {
  /** `host:port` of the registry behind it. */
  readonly upstream: string;
  /** `client_max_body_size`, in nginx's words: `10m`, `0` for no limit. */
  readonly clientMaxBodySize: string;
  /** The port; any free one by default. */
  readonly port?: number;
  /** `proxy_request_buffering`; on is nginx's default: a body is read whole before the upstream hears of it. */
  readonly requestBuffering?: boolean;
}

export interface Nginx {
  /** `127.0.0.1:PORT`, as in a reference. */
  readonly host: string;
  /** What was asked of it so far: its access log. */
  requests(): readonly NginxRequest[];
  stop(): Promise<void>;
}

export interface NginxRequest {
  readonly method: string;
  readonly uri: string;
  readonly status: number;
  /** Bytes of the whole request, header included. */
  readonly length: number;
}

const PORT_TRIES = 3;

/** Starts the proxy. Throws an Error with its log when it does not come up. */
export const startNginx = async (options: NginxOptions): Promise<Nginx> => {
  for (let tries = 1; ; tries++) {
    try {
      return await startOn(options.port ?? (await freePort()), options);
    } catch (error) {
      // Another process may have taken the port between the look and the start.
      if (tries === PORT_TRIES) throw error;
    }
  }
};

const startOn = async (port: number, options: NginxOptions): Promise<Nginx> => {
  const folder = privateFolder('nginx');
  const config = join(folder, 'nginx.conf');
  const accessLog = join(folder, 'access.log');
  for (const name of TEMPORARY) mkdirSync(join(folder, name));
  writeFileSync(accessLog, '');
  writeFileSync(config, configOf(folder, port, options));
  const server = startServer({
    folder,
    command: [commandOf('nginx', 'nginx'), '-p', folder, '-c', config, '-e', 'stderr'],
  });
  const host = `127.0.0.1:${port}`;
  const ask = () =>
    fetch(`http://${host}/nginx-is-up`).then(
      ({ status }) => (status === 204 ? true : undefined),
      () => undefined,
    );
  await server.until(ask);
  return { host, requests: () => parse(readFileSync(accessLog, 'utf8')), stop: server.stop };
};

const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'] as const;

/**
 * What Debian's nginx.conf sets is set here too (workers, sendfile, tcp_nopush, gzip), all else is nginx's default.
 * Started as root, nginx would drop to a user who may not enter the private folder.
 */
const configOf = (folder: string, port: number, options: NginxOptions): string => `
daemon off;
${isRoot() ? 'user root;' : ''}
worker_processes auto;
pid ${folder}/nginx.pid;
error_log stderr notice;
events { worker_connections 768; }
http {
  sendfile on;
  tcp_nopush on;
  gzip on;
  log_format requests '$request_method $status $request_length $request_uri';
  access_log ${folder}/access.log requests;
${TEMPORARY.map((name) => `  ${name}_temp_path ${folder}/${name};`).join('\n')}
  server {
    listen 127.0.0.1:${port};
    client_max_body_size ${options.clientMaxBodySize};
    location = /nginx-is-up { access_log off; return 204; }
    location / {
      proxy_pass http://${options.upstream};
      proxy_set_header Host $http_host;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_request_buffering ${options.requestBuffering === false ? 'off' : 'on'};
      proxy_http_version 1.1;
      proxy_read_timeout 900;
    }
  }
}
`;

const parse = (log: string): readonly NginxRequest[] =>
  log
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [method = '', status = '', length = '', uri = ''] = line.split(' ');
      return { method, uri, status: Number(status), length: Number(length) };
    });
