// SPDX-License-Identifier: GPL-3.0-or-later

// Package soak is `make soak`: its tests have the build tag soak.
package soak
