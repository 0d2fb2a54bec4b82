import { command, projectArgument } from "../../command.ts";
import { describeQuota } from "../../quota.ts";
import { facts, moment } from "../../text.ts";

export default command<Record<never, never>, [string]>({
  parameters: { positional: { kind: "tuple", parameters: [projectArgument] } },
  async run(context, _flags, name) {
    const client = await context.client();
    const project = await client.getProject({ params: { project: name } });
    const quota = await client.getQuota({ params: { project: name } });
    const created = moment(project.createdAt, Date.now());
    context.print({ ...project, quota }, () =>
      facts([["Name", project.name], ["Id", project.id], ["Created", created], ...describeQuota(quota)]),
    );
  },
});
