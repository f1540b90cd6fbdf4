// SPDX-License-Identifier: GPL-3.0-or-later

// Package rewrite finds the vault's calls in SQL text and edits that text.
//
// It is pure: no I/O, no clock, no project imports. [Analyzer.Analyze] turns a
// text into a [Plan], which says which literals and parameters are names and
// values, or into a [Refusal], which is what the client is told instead; a text
// that does not concern the vault yields neither and must pass untouched.
//
// Three rules shape everything here. A value leaves its literal only through
// [Plan.DecodeValue], into the caller's buffer: the C parser, its messages, the
// plan cache and every refusal see the text with the content of each literal
// overwritten. A text is either understood or, if it could carry a value,
// refused: this package fails closed. And whatever is not replaced goes on
// byte for byte, comments and spaces included.
package rewrite
