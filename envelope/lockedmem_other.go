// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !linux

package envelope

import "errors"

var errPlatform = errors.New("only known on Linux")

func mapLocked(int) ([]byte, error) { return nil, errPlatform }

func mapUnlocked(n int) ([]byte, error) { return make([]byte, n), nil }

func unmap([]byte) error { return nil }

// LockProcess is only known on Linux.
func LockProcess() error { return errPlatform }
