/** One cell of the matrix: a push of one small image through the fault proxy, and how it ended. */
import { setTimeout as sleep } from 'node:timers/promises';
import { MediaType } from '../../src/oci/types.ts';
import type { Clock } from '../../src/registry/host/throttle.ts';
import { Registry } from '../../src/registry/registry.ts';
import { bytesOf, digestOfBytes, imageManifest, knownBody } from '../registry/upload/client.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy/proxy.ts';
import type { FaultRule, SeenRequest } from '../support/fault-proxy/rules.ts';
import { TEST_CREDENTIALS } from '../support/registry/profiles.ts';
import type { Step } from '../support/registry/steps.ts';
import { quickClock } from './clock.ts';
import type { FaultKind } from './kinds.ts';
import { CONFIG_BYTES, LAYER, type MatrixStep } from './steps.ts';
import type { Running, Site, Target } from './targets.ts';

export interface Cell {
  readonly target: Target;
  readonly step: MatrixStep;
  readonly kind: FaultKind;
}

export const nameOf = ({ target, step, kind }: Cell): string => `${target.name} / ${step.name} / ${kind.name}`;

/** How a cell ended. `broken` is the third end, which must not be: a push that says it worked, and did not. */
export type End =
  | { readonly is: 'pushed'; readonly resent: number }
  | { readonly is: 'failed'; readonly error: unknown }
  | { readonly is: 'broken'; readonly how: string };

export interface Result {
  readonly cell: Cell;
  readonly end: End;
  /** Requests that the fault befell. */
  readonly hits: number;
  /** Bytes that went to the registry's own refusals count as one more fault each. */
  readonly ownRefusals: number;
  readonly milliseconds: number;
}

const CONFIG = bytesOf(CONFIG_BYTES, 'matrix config');
const LAYER_BODY = knownBody(LAYER);
const CONFIG_BODY = knownBody(CONFIG);
const MANIFEST = imageManifest(CONFIG, [LAYER]);
const TAG = '1';
const BASE = 'team/base';

/**
 * ms until no answer is noticed. Where that is the fault, short; but a busy machine must not look like one, unless the push
 * is to fail anyway.
 */
const TIMEOUTS = { silent: 2500, hopeless: 1500, other: 20_000 } as const;

/** ms; a cell that takes longer hangs, which is an end that must not be. */
export const CELL_DEADLINE = 60_000;

/** ms of the cell's own clock; where nothing passes by itself each try more costs real time. */
const HOPELESS_WAIT = 10_000;

function clientOf({ target, kind }: Cell, host: string, clock: Clock): Registry {
  const timeout = TIMEOUTS[kind.hangs ? (kind.times === 'always' ? 'hopeless' : 'silent') : 'other'];
  return new Registry({
    host,
    insecure: true,
    chunkSize: 'auto',
    maxRetries: kind.times === 'always' ? 2 : 3,
    ...(kind.times === 'always' ? { maxWait: HOPELESS_WAIT } : {}),
    credentials: { source: 'the test', ...TEST_CREDENTIALS },
    timeouts: { header: timeout, idle: timeout },
    clock,
    onEvent: () => {},
    ...target.client,
  });
}

async function push(registry: Registry, site: Site, step: MatrixStep, signal: AbortSignal): Promise<number> {
  const repository = registry.repository(site.repository);
  const more = step.with === 'mount' ? { mountFrom: BASE } : { openWhileAsking: step.with === 'ahead' };
  // As long as the registry has not answered its first request goes alone.
  if (step.with === 'ahead') await repository.headBlob(digestOfBytes(CONFIG), signal);
  if (step.with === 'together') registry.connect();
  const layerSent = repository.uploadBlob(LAYER_BODY, { label: 'the layer', signal, ...more });
  layerSent.catch(() => {});
  if (step.with !== 'together') await layerSent;
  const configSent = repository.uploadBlob(CONFIG_BODY, { label: 'the config', signal });
  const [layer, config] = await Promise.all([layerSent, configSent]);
  await repository.putManifest(MANIFEST, MediaType.ociManifest, TAG, signal);
  return layer.bytesResent + config.bytesResent;
}

/** Whether the registry now serves exactly what was pushed; undefined, or what is wrong. */
async function wrongWith(site: Site): Promise<string | undefined> {
  for (const [name, bytes] of Object.entries({ layer: LAYER, config: CONFIG })) {
    const stored = await site.blob(digestOfBytes(bytes));
    if (stored === undefined) return `the ${name} is not there`;
    if (!stored.equals(bytes)) return `the ${name} has other bytes`;
  }
  const stored = await site.manifest(TAG);
  if (stored === undefined) return 'the manifest is not there';
  return stored.equals(MANIFEST) ? undefined : 'the manifest has other bytes';
}

async function endOf(registry: Registry, site: Site, step: MatrixStep): Promise<End> {
  const deadline = AbortSignal.timeout(CELL_DEADLINE);
  const late = new Promise<never>((_, reject) => {
    deadline.addEventListener('abort', () => reject(deadline.reason), { once: true });
  });
  try {
    const resent = await Promise.race([push(registry, site, step, deadline), late]);
    const how = await wrongWith(site);
    return how === undefined ? { is: 'pushed', resent } : { is: 'broken', how };
  } catch (error) {
    return deadline.aborted ? { is: 'broken', how: `no end within ${CELL_DEADLINE} ms` } : { is: 'failed', error };
  }
}

/** Every request that a registry gets. */
const ALL_STEPS: readonly Step[] = [
  'ping',
  'token',
  'blob-head',
  'upload-post',
  'upload-mount',
  'upload-get',
  'upload-patch',
  'upload-put',
  'upload-delete',
  'manifest-get',
  'manifest-put',
];

function ruleOf({ step, kind }: Cell, clock: Clock, proxy: FaultProxy): FaultRule {
  const where = (request: SeenRequest): boolean => {
    if (step.where?.(request) === false) return false;
    if (kind.unused !== undefined) proxy.faults.endUnused(kind.unused);
    return true;
  };
  const isPosted = () => (proxy.stats.over.get('upload-post') ?? 0) > 0;
  const isHeld = ({ step: of }: SeenRequest) => step.with === 'ahead' && of === 'blob-head';
  const held = async (request: SeenRequest) => (isHeld(request) ? until(isPosted) : undefined);
  const { outage } = kind;
  if (outage === undefined) {
    const times = kind.times === 'always' ? Number.POSITIVE_INFINITY : 1;
    return { step: step.step, where, held, fault: kind.fault(), times };
  }
  let since: number | undefined;
  const isAway = (request: SeenRequest): boolean => {
    const concerned = typeof step.step === 'string' ? [step.step] : step.step;
    if (concerned.includes(request.step) && where(request)) since ??= clock.now();
    return since !== undefined && clock.now() - since < outage * 1000;
  };
  return { step: ALL_STEPS, where: isAway, held, fault: kind.fault(), times: Number.POSITIVE_INFINITY };
}

/** Connections that a registry opens early: one more than its default concurrency. */
const OPENED_EARLY = 6;

async function openEarly(registry: Registry, site: Site, proxy: FaultProxy): Promise<void> {
  registry.repository(site.repository);
  registry.connect();
  await until(() => proxy.unused() === OPENED_EARLY);
}

/**
 * A session that was opened beside a HEAD is used or deleted, whatever became of the HEAD. Where the POST's own answer may be lost (an
 * outage, a connection that dies with it) the client can't know of the session.
 */
function leavesSession({ step, kind }: Cell, site: Site): boolean {
  const isKnown = kind.outage === undefined && kind.unused === undefined && site.ownRefusals() === 0;
  return step.with === 'ahead' && isKnown && site.openSessions() > 0;
}

async function until(reached: () => boolean): Promise<void> {
  while (!reached()) await sleep(2);
}

/** Runs a cell in a repository of its own, through a proxy of its own. */
export async function runCell(cell: Cell, running: Running): Promise<Result> {
  const { step, kind } = cell;
  const started = performance.now();
  const site = await running.open(nameOf(cell), step.step === 'token' || kind.needs === 'credentials');
  const proxy = await startFaultProxy({ target: site.url, oneRequestEach: kind.unused !== undefined });
  const clock = quickClock();
  const registry = clientOf(cell, proxy.host, clock);
  try {
    if (step.with === 'mount') await site.addBlob(BASE, LAYER);
    if (step.before !== undefined) proxy.faults.add(step.before);
    const rule = proxy.faults.add(ruleOf(cell, clock, proxy));
    if (kind.unused !== undefined) await openEarly(registry, site, proxy);
    const pushed = await endOf(registry, site, step);
    await registry.close();
    const end = leavesSession(cell, site) ? ({ is: 'broken', how: 'an upload session is left open' } as const) : pushed;
    const milliseconds = performance.now() - started;
    return { cell, end, hits: rule.hits, ownRefusals: site.ownRefusals(), milliseconds };
  } finally {
    await registry.close();
    await proxy.close();
  }
}
