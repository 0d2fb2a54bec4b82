import type { ArchiveFiles } from "../archives/archive-files.ts";
import type { KitDescription } from "../core/descriptions.ts";
import type { Driver, OwnerMark } from "../drivers/driver.ts";
import type { GuestHub } from "../guest/hub.ts";
import type { Sessions } from "../guest/sessions.ts";
import type { Host } from "../host/host.ts";
import type { Images } from "../images/images.ts";
import type { PortTraffic } from "../network/port-traffic.ts";
import type { StandIns } from "../network/stand-ins.ts";
import type { UserNetwork } from "../network/user-network.ts";
import type { FaultPoints } from "../operations/fault.ts";
import type { InstanceFolders } from "../storage/instance-folder.ts";
import type { SnapshotFolders } from "../storage/snapshot-folders.ts";
import type { TemplateFolders } from "../storage/template-folders.ts";
import type { Store } from "../store/store.ts";

/** What workflows and their steps work with: the store and the rooms, wired once in main. */
export interface Services {
  readonly store: Store;
  readonly host: Host;
  readonly images: Images;
  readonly guests: GuestHub;
  readonly sessions: Sessions;
  /** The driver of a location; throws BerthError `unsupported_by_driver` for one that is not configured here. */
  driver(location: string): Driver;
  ownerOf(instanceId: string): OwnerMark;
  readonly folders: InstanceFolders;
  readonly templates: TemplateFolders;
  readonly archives: ArchiveFiles;
  readonly snapshotFolders: SnapshotFolders;
  /** The node that this is. */
  readonly nodeId: string;
  readonly network: UserNetwork;
  /** Who takes the connections of instances that sleep. */
  readonly standIns: StandIns;
  readonly traffic: PortTraffic;
  /** The kernel and initramfs that container images boot with; undefined while it has not been built. */
  readonly kit: KitDescription | undefined;
  /** Where a test lets the daemon die, beside those of operations. */
  readonly faults: FaultPoints;
  /** How long a started guest may take until it is ready, in milliseconds. */
  readonly readyTimeoutMs: number;
}
