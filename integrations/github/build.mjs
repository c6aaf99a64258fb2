// Bundles the action into dist/index.js, byte for byte the same on every machine; `--tests`: the tests into build/.
import { build } from "esbuild";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

process.chdir(fileURLToPath(new URL(".", import.meta.url)));
const tests = process.argv.includes("--tests");
const outdir = process.env.SEALWRIGHT_DIST ?? (tests ? "build" : "dist");
const common = {
  bundle: true,
  platform: "node",
  target: "node20",
  format: "esm",
  charset: "utf8",
  metafile: true,
  logLevel: "warning",
  // what is bundled of CommonJS asks for require
  banner: { js: 'import { createRequire } from "node:module";\nconst require = createRequire(import.meta.url);' },
};

await rm(outdir, { recursive: true, force: true });
if (tests) {
  const names = (await readdir("test")).filter((name) => name.endsWith(".test.ts"));
  await build({ ...common, entryPoints: names.map((name) => `test/${name}`), outdir });
} else {
  const { metafile } = await build({ ...common, entryPoints: ["src/main.ts"], outfile: `${outdir}/index.js`, legalComments: "none" });
  await mkdir(outdir, { recursive: true });
  await writeFile(`${outdir}/licenses.txt`, await licenses(Object.keys(metafile.inputs)));
  // the runner looks for the nearest package.json to tell which kind of module this is
  await writeFile(`${outdir}/package.json`, '{ "type": "module" }\n');
}

/** Names, versions and licence texts of the packages that went into the bundle. */
async function licenses(inputs) {
  const folders = inputs.map((input) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0]).filter(Boolean);
  const parts = [];
  for (const folder of [...new Set(folders)].sort()) {
    const { name, version, license } = JSON.parse(await readFile(`${folder}/package.json`, "utf8"));
    const file = (await readdir(folder)).find((one) => /^licen[cs]e/i.test(one));
    const text = file ? await readFile(`${folder}/${file}`, "utf8") : `Licence: ${license}\n`;
    parts.push(`${name} ${version} (${license})\n\n${text.replace(/\r\n/g, "\n").trim()}\n`);
  }
  return parts.join(`\n${"-".repeat(80)}\n\n`);
}
