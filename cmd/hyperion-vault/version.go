// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"runtime"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

// version is set by the build (Makefile).
var version = "unknown"

// notRecording is said by a build that is for measuring alone.
const notRecording = "this build RECORDS NOTHING in the audit (built with the tag noaudit, to measure): not for secrets"

type versionCommand struct{}

func (versionCommand) Run(std *streams) error {
	erased := "erased from memory after use (runtimesecret)"
	if !erase.Enabled() {
		erased = "NOT erased from memory after use (built without GOEXPERIMENT=runtimesecret)"
	}
	_, err := fmt.Fprintf(std.out, "hyperion-vault %s, %s %s/%s; keys and values are %s\n",
		version, runtime.Version(), runtime.GOOS, runtime.GOARCH, erased)
	if err == nil && !recording {
		_, err = fmt.Fprintln(std.out, notRecording)
	}
	return err
}
