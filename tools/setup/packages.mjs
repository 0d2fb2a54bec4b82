/**
 * @typedef {object} HostPackage
 * @property {string} name the package's name in Debian
 * @property {string} why
 * @property {readonly string[]} has programs, or absolute paths of files, by which it is known to be there: on any distribution
 * @property {readonly ("start" | "test" | "bench")[]} for the commands that need it
 * @property {string} [service] what its installation would switch on; it is left switched off
 */

const all = /** @type {const} */ (["start", "test", "bench"]);
const tests = /** @type {const} */ (["test"]);

/** Everything Berth takes from the host's own packages. */
/** @type {readonly HostPackage[]} */
export const hostPackages = [
  { name: "qemu-system-x86", why: "runs the virtual machines", has: ["qemu-system-x86_64"], for: all },
  { name: "qemu-utils", why: "makes, grows and checks disks", has: ["qemu-img"], for: all },
  { name: "e2fsprogs", why: "makes file systems from folders", has: ["mke2fs"], for: all },
  { name: "fakeroot", why: "keeps owners of files without being root", has: ["fakeroot"], for: all },
  { name: "buildah", why: "builds Dockerfiles", has: ["buildah"], for: all },
  { name: "uidmap", why: "user ids for builds that are not root's", has: ["newuidmap"], for: all },
  { name: "passt", why: "the network of guests without being root", has: ["passt"], for: all },
  { name: "nftables", why: "keeps guests off the host's own addresses", has: ["nft"], for: all },
  { name: "iproute2", why: "network namespaces and interfaces", has: ["ip"], for: all },
  { name: "git", why: "fetches repositories with a Dockerfile", has: ["git"], for: all },
  { name: "ca-certificates", why: "knows whom to trust", has: ["/etc/ssl/certs/ca-certificates.crt"], for: all },
  { name: "busybox-static", why: "the first program inside a guest", has: ["busybox"], for: all },
  { name: "dropbear-bin", why: "exec, shell and cp into a guest", has: ["dropbear"], for: all },
  { name: "gcc", why: "compiles the guest's small helper", has: ["gcc"], for: all },
  { name: "libc6-dev", why: "compiles the guest's small helper", has: ["/usr/include/stdlib.h"], for: all },
  { name: "cpio", why: "packs the guest's initramfs", has: ["cpio"], for: all },
  { name: "zstd", why: "compresses the guest's initramfs", has: ["zstd"], for: all },
  { name: "xz-utils", why: "unpacks kernel modules", has: ["xz"], for: all },
  { name: "skopeo", why: "moves images between registries", has: ["skopeo"], for: ["test", "bench"] },
  { name: "umoci", why: "what image builds are measured against", has: ["umoci"], for: ["bench"] },
  {
    name: "docker-registry",
    why: "a real registry to pull from",
    has: ["docker-registry"],
    for: tests,
    service: "docker-registry",
  },
  {
    name: "postgresql",
    why: "the second store",
    has: ["/usr/lib/postgresql"],
    for: tests,
    service: "postgresql",
  },
  { name: "mmdebstrap", why: "makes Debian images", has: ["mmdebstrap"], for: tests },
  { name: "musl-tools", why: "compiles static programs for images", has: ["musl-gcc"], for: tests },
  { name: "attr", why: "reads extended attributes of files", has: ["getfattr"], for: tests },
  { name: "libcap2-bin", why: "reads capabilities of files", has: ["getcap"], for: tests },
];
