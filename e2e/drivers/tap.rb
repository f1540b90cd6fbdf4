# SPDX-License-Identifier: GPL-3.0-or-later
# Runs the features of a driver's suite and prints a line of TAP for each.

class Suite
  def initialize
    @features = []
  end

  def feature(name, &body)
    @features << [name, body]
  end

  def run
    failed = false
    @features.each do |name, body|
      body.call
      puts "ok - #{name}"
    rescue Exception => e # rubocop:disable Lint/RescueException
      failed = true
      puts e.full_message(highlight: false), "not ok - #{name}"
    end
    exit !failed
  end
end

def equal(got, want)
  raise "got #{got.inspect}, want #{want.inspect}" unless got == want
end
