import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** The licence of every package whose code is on the page, in a file beside it. */
function licences(): Plugin {
  return {
    name: "licences",
    generateBundle() {
      const packages = new Set([...this.getModuleIds()].map(packageOf).filter((folder) => folder !== null));
      const texts = [...packages].sort().map(licenceOf);
      this.emitFile({ type: "asset", fileName: "assets/licences.txt", source: texts.join("\n\n") });
    },
  };
}

interface Package {
  name: string;
  version: string;
  license?: string;
}

/** The folder of the package that a module belongs to: the first one below the last `node_modules`. */
function packageOf(module: string): string | null {
  return /^\0?(.*node_modules\/(?:@[^/]+\/)?[^/]+)/.exec(module)?.[1] ?? null;
}

function licenceOf(folder: string): string {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf-8")) as Package;
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  if (license === undefined || file === undefined) throw new Error(`${name} states no licence`);
  return `${name} ${version}: ${license}\n\n${readFileSync(join(folder, file), "utf-8").trim()}\n`;
}

export default defineConfig({
  base: "./",
  build: {
    outDir: "../src/hounsfield/serving/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
  },
  plugins: [licences()],
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
