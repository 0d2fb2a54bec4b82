import { type Instance, InstancePhase } from "@berth/api";
import { command, texts, yes } from "../../command.ts";
import { listAll } from "../../pages.ts";
import { formatPort } from "../../ports.ts";
import { age, mebibytes, table } from "../../text.ts";

type Flags = {
  label?: string[];
  phase?: InstancePhase;
  quiet?: boolean;
};

export default command<Flags>({
  parameters: {
    flags: {
      label: texts("Only those with this label: K=V, or K with any value", "K=V"),
      phase: {
        kind: "enum",
        values: InstancePhase.options,
        brief: "Only those in this phase",
        placeholder: "PHASE",
        optional: true,
      },
      quiet: yes("Print names only"),
    },
    aliases: { l: "label", q: "quiet" },
  },
  async run(context, { label, phase, quiet }) {
    const client = await context.client();
    const query = { ...(label?.length ? { label } : {}), ...(phase ? { phase } : {}) };
    const instances = await listAll((page) => client.listInstances({ query: { ...query, ...page } }));
    if (quiet) return context.print(instances, () => instances.map(({ name }) => `${name}\n`).join(""));
    context.print(instances, () =>
      table(
        heading,
        instances.map((instance) => row(instance, Date.now())),
      ),
    );
  },
});

const heading = ["NAME", "IMAGE", "PHASE", "READY", "PORTS", "AGE", "CPUS", "MEMORY"];

function row({ name, image, status, createdAt, spec }: Instance, now: number): string[] {
  const ports = status.ports.map(formatPort).join(", ");
  return [
    name,
    image,
    status.pending.length > 0 ? `${status.phase}*` : status.phase,
    status.ready ? "yes" : "no",
    ports,
    age(createdAt, now),
    String(spec.cpus),
    mebibytes(spec.memoryMib),
  ];
}
