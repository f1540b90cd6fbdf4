// SPDX-License-Identifier: GPL-3.0-or-later
"use strict";
// Runs the features of a driver's suite and prints a line of TAP for each.

class Suite {
  features = [];

  feature(name, body) {
    this.features.push([name, body]);
  }

  // run runs them in order, and after. What a failed one has left open does not keep
  // the process.
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
    process.exit(failed ? 1 : 0);
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
