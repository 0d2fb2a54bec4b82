import { join } from "node:path";
import type { FastifyInstance } from "fastify";
import type { Logger } from "pino";
import { type Config, ConfigError } from "./config.ts";
import { autosuspend } from "./controllers/autosuspend.ts";
import { expireArchives } from "./controllers/expire-archives.ts";
import { keepNode } from "./controllers/keep-node.ts";
import { keepPools } from "./controllers/keep-pools.ts";
import { keepTemplates } from "./controllers/keep-templates.ts";
import { observeInstances } from "./controllers/observe-instances.ts";
import { prune } from "./controllers/prune.ts";
import { restartInstances } from "./controllers/restart-instances.ts";
import { scheduleSnapshots } from "./controllers/schedule-snapshots.ts";
import { tendSnapshots } from "./controllers/tend-snapshots.ts";
import { dataFolderMode, takeDataFolder } from "./data-folder.ts";
import type { Host } from "./host/host.ts";
import { localHost } from "./host/local.ts";
import { AccessTokens } from "./identity/access-tokens.ts";
import { dropFirstPassword, keepAdminToken, keepFirstAdmin, readIdentity } from "./installation.ts";
import { removeListenFile, writeListenFile } from "./listen-file.ts";
import { nodeName } from "./nodes/describe-node.ts";
import { OperationEngine } from "./operations/engine.ts";
import { createServer } from "./server/create-server.ts";
import { serverServices } from "./services/index.ts";
import { insertSigningKey, listSigningKeys } from "./store/signing-keys.ts";
import { openStore } from "./store/store.ts";
import { wireNode } from "./wire-node.ts";
import { allWorkflows } from "./workflows/index.ts";
import { templateBuild } from "./workflows/template-place.ts";

/** A running berthd. */
export interface Daemon {
  /** Where it listens: `http://127.0.0.1:8642`. */
  readonly url: string;
  /** Stops serving and working; the instances go on. */
  stop(): Promise<void>;
}

/** Starts berthd: opens what it keeps, takes up the work a former one left, and serves. Rejects with a ConfigError or StoreError that says what to do. */
export async function startDaemon(config: Config, log: Logger, version: string): Promise<Daemon> {
  const host = localHost();
  const facts = await host.facts();
  const { dataDir } = config;
  const lock = await takeDataFolder(host, facts, dataDir);
  const store = await openStore(config.store, { onError: (error) => log.warn({ err: error }, "the store") });
  const identity = await readIdentity(store, host, dataDir, facts.hostname);
  if (identity.nodeName !== nodeName(facts.hostname))
    log.info({ node: identity.nodeName, hostname: facts.hostname }, "the host was renamed; the node keeps its name");
  await keepAdminToken(store, host, dataDir, identity.nodeId);
  await keepFirstAdmin(store, host, dataDir);

  const node = await wireNode({ config, log, host, facts, store, identity });
  await node.services.images.removeLeftovers();
  await emptyTemporaryFolder(host, dataDir, dataFolderMode(facts));
  const engine = new OperationEngine({
    store,
    workflows: allWorkflows(node.services),
    nodeId: identity.nodeId,
    log,
    faults: node.services.faults,
  });
  const server = createServer({
    log,
    hostNames: [facts.hostname],
    publicUrl: config.publicUrl,
    tuning: { requestsPerSecond: config.requestsPerSecond },
    services: serverServices(node.services, {
      store,
      nodeId: identity.nodeId,
      architecture: facts.architecture,
      capacity: facts,
      dataDir,
      accessTokens: new AccessTokens(`berth/${identity.installationId}`, {
        save: (key, lifetimeMs) => insertSigningKey(store.queries, key, lifetimeMs),
        list: () => listSigningKeys(store.queries),
      }),
      afterLogin: (name) => dropFirstPassword(host, dataDir, name),
      drivers: new Map([[node.driver.location, node.driver]]),
      defaultLocation: node.driver.location,
      memoryBuild: (location) => templateBuild(node.services, location),
      cannotStandIn: node.cannotStandIn,
    }),
  });
  const url = await listen(server, config.listen);
  await writeListenFile(host, dataDir, url);

  const nodeParts = {
    id: identity.nodeId,
    name: identity.nodeName,
    version,
    dataDir,
    startedAt: new Date().toISOString(),
    host,
    kitBuildId: node.services.kit?.buildId ?? null,
  };
  // From here on nothing fails any more: what is begun below is ended by `stop` alone.
  const stopping = new AbortController();
  const parts = [
    node.findAccelerator(stopping.signal),
    engine.run(stopping.signal),
    observeInstances(node.services, identity.nodeId, log, stopping.signal),
    keepTemplates(
      { services: node.services, nodeId: identity.nodeId, dataDir, automatic: config.templates === "auto", log },
      stopping.signal,
    ),
    restartInstances(node.services, identity.nodeId, log, stopping.signal),
    keepPools({ services: node.services, nodeId: identity.nodeId, log }, stopping.signal),
    keepNode({ store, parts: nodeParts, node, drivers: [node.driver], log }, stopping.signal),
    prune(store, log, stopping.signal),
    expireArchives(store, identity.nodeId, log, stopping.signal),
    tendSnapshots(node.services, log, stopping.signal),
    scheduleSnapshots(node.services, log, stopping.signal),
    node.cannotStandIn === "" && autosuspend(node.services, identity.nodeId, log, stopping.signal),
  ];
  const working = Promise.all(parts);
  working.catch((error: unknown) => log.error({ err: error }, "a part of berthd ended that should not"));
  log.info({ url, dataDir, version }, "berthd is up");

  return {
    url,
    stop: async () => {
      stopping.abort();
      await removeListenFile(host, dataDir);
      await server.close();
      // All of them, also when one has failed: what they started is gone only when they say so.
      await Promise.allSettled(parts);
      node.services.guests.close();
      await node.services.standIns.close();
      await store.close();
      await lock.release();
      await working;
    },
  };
}

/** Removes what a former daemon left half-made. */
async function emptyTemporaryFolder(host: Host, dataDir: string, mode: number): Promise<void> {
  const folder = join(dataDir, "tmp");
  await host.files.remove(folder);
  await host.files.makeDirectory(folder, { mode });
}

async function listen(server: FastifyInstance, { host, port }: Config["listen"]): Promise<string> {
  try {
    return await server.listen({ host, port });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EADDRINUSE")
      throw new ConfigError(`${host}:${port} is in use by another program. Set BERTH_LISTEN to another address.`);
    if (code === "ENOTFOUND" || code === "EAI_AGAIN")
      throw new ConfigError(
        `${host} is a name that is not known here. Set BERTH_LISTEN to an address of this machine.`,
      );
    if (code === "EADDRNOTAVAIL")
      throw new ConfigError(`${host} is not an address of this machine. Set BERTH_LISTEN to one that is.`);
    if (code === "EACCES")
      throw new ConfigError(`This user may not listen on port ${port}. Set BERTH_LISTEN to a port above 1023.`);
    throw error;
  }
}
