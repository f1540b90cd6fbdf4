// SPDX-License-Identifier: GPL-3.0-or-later
"use strict";
// Runs the features of a driver's suite and prints a line of TAP for each.

class Suite {
  features = [];

  feature(name, body) {
    this.features.push([name, body]);
  }

  // run runs them in order; after ends what would keep the process.
  async run(after) {
    let failed = false;
    for (const [name, body] of this.features) {
      try {
        await body();
        console.log(`ok - ${name}`);
      } catch (e) {
        failed = true;
        console.log(e);
        console.log(`not ok - ${name}`);
      }
    }
    await after();
    process.exitCode = failed ? 1 : 0;
  }
}

// raises: the promise must fail with a server's error of this SQLSTATE.
async function raises(state, promise) {
  try {
    await promise;
  } catch (e) {
    if (e.code !== state) throw e;
    return e;
  }
  throw new Error(`no error, want ${state}`);
}

module.exports = { Suite, raises };
