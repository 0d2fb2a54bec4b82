/** Plain data that rooms hand each other through workflow steps: no behaviour, no paths interpreted. */

/** A disk as the hypervisor sees it; the format is always explicit. */
export interface DiskDescription {
  readonly name: string;
  readonly path: string;
  readonly format: "qcow2" | "raw";
  readonly readOnly: boolean;
}

/** A published port as it will really be bound on the host. */
export interface PortForward {
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly guestPort: number;
  readonly protocol: "tcp" | "udp";
}

/** One network card and what it is joined to. */
export interface NicDescription {
  readonly name: string;
  readonly mac: string;
  readonly network: "user";
  readonly forwards: readonly PortForward[];
  /** How a QEMU on this host joins it: the value of its -netdev, without an id. Made by whoever keeps the guest away from the host. */
  readonly netdev: string;
}

/** The kernel and initramfs a `rootfs` image is booted with; `buildId` names the build of both. */
export interface KitDescription {
  readonly kernelPath: string;
  readonly initrdPath: string;
  readonly buildId: string;
  /** The program that reads and seals guests' memory; older kits have none. */
  readonly memoryToolPath?: string | undefined;
}

/** Who a process on the host runs as; absent when the daemon is not root. */
export interface HostUser {
  readonly uid: number;
  readonly gid: number;
}
