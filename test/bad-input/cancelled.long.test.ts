import { beginnings, cancelAt } from "./cancelling.ts";

cancelAt((point) => !beginnings.test(point));
