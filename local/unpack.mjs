// Unpacks the Chromium of @sparticuz/chromium, with the libraries and the font it needs, into $TMPDIR.

import { inflate } from "@sparticuz/chromium";
import { fileURLToPath } from "node:url";

const packages = new URL("../node_modules/@sparticuz/chromium/bin/", import.meta.url);
for (const name of ["chromium.br", "al2023.tar.br", "fonts.tar.br"])
  await inflate(fileURLToPath(new URL(name, packages)));
