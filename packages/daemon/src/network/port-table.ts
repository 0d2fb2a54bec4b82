import type { Host } from "../host/host.ts";
import {
  type CountedPort,
  count,
  type Diversion,
  diversionTable,
  divert,
  giveBack,
  readCounts,
  stopCounting,
} from "./diversion-rules.ts";
import { listTable, nft } from "./nft.ts";
import { withoutRules } from "./rules.ts";

/** The kernel's table of published ports: where their new connections go meanwhile, and how much comes to them. */
export interface PortTable {
  /** Has new connections to these ports go to the daemon's, for `diversionTimeoutS`; the same again prolongs that. */
  divert(diversions: readonly Diversion[]): Promise<void>;
  /** Ends that at once; resolves when nothing is diverted. */
  giveBack(diversions: readonly Diversion[]): Promise<void>;
  count(ports: readonly CountedPort[]): Promise<void>;
  stopCounting(ports: readonly CountedPort[]): Promise<void>;
  /** Packets that came to each counted port since it is counted, by `countKey`. */
  counts(): Promise<ReadonlyMap<string, number>>;
  /** Removes all of it; resolves when there is none. */
  remove(): Promise<void>;
}

/** The table in nftables: only root has one. `folder` says whose it is to people who look at it. */
export function nftPortTable(options: {
  readonly host: Host;
  readonly table: string;
  readonly folder: string;
}): PortTable {
  const { host, table } = options;
  // With the whole table each time: whoever took it away, or its rules, is not told of.
  const apply = (text: string) => (text === "" ? Promise.resolve() : nft(host, diversionTable(options) + text));
  return {
    divert: (diversions) => apply(divert(table, diversions)),
    giveBack: (diversions) => apply(giveBack(table, diversions)),
    count: (ports) => apply(count(table, ports)),
    stopCounting: (ports) => apply(stopCounting(table, ports)),
    counts: async () => readCounts(await listTable(host, table)),
    async remove() {
      // Where there is no nft, there never was a table.
      if (await host.find("nft")) await nft(host, withoutRules(table));
    },
  };
}

/** For machines that have no ports on this node. */
export const noPortTable: PortTable = {
  divert: async () => undefined,
  giveBack: async () => undefined,
  count: async () => undefined,
  stopCounting: async () => undefined,
  counts: async () => new Map(),
  remove: async () => undefined,
};
