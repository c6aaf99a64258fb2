import { fail, run } from "./run.js";

await run(process.env).catch(fail);
