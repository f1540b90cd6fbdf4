# SPDX-License-Identifier: GPL-3.0-or-later
package Tap;

# Runs the features of a driver's suite and prints a line of TAP for each.

use strict;
use warnings;
use Exporter 'import';
our @EXPORT_OK = qw(feature run equal);

my @features;

sub feature { push @features, [@_]; return }

sub run {
    my $failed = 0;
    $| = 1;
    binmode STDOUT, ':encoding(UTF-8)';
    for my $feature (@features) {
        my ($name, $body) = @$feature;
        if (eval { $body->(); 1 }) {
            print "ok - $name\n";
        }
        else {
            $failed = 1;
            print "$@\nnot ok - $name\n";
        }
    }
    exit $failed;
}

sub equal {
    my ($got, $want) = @_;
    return if defined $got ? defined $want && $got eq $want : !defined $want;
    my ($file, $line) = (caller)[ 1, 2 ];
    die sprintf "line %d: got %.200s, want %.200s\n", $line, $got // 'undef', $want // 'undef';
}

1;
