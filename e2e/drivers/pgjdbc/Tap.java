// SPDX-License-Identifier: GPL-3.0-or-later

import java.sql.SQLException;
import java.util.Objects;

/** Prints a line of TAP for each feature, and has the checks that features make. */
final class Tap {
  private boolean failed;

  interface Action {
    void run() throws Exception;
  }

  void feature(String name, Action feature) {
    try {
      feature.run();
      System.out.println("ok - " + name);
    } catch (Throwable e) {
      failed = true;
      e.printStackTrace(System.out);
      System.out.println("not ok - " + name);
    }
  }

  void exit() {
    System.exit(failed ? 1 : 0);
  }

  static void equal(Object want, Object got) {
    check(Objects.equals(want, got), "got " + got + ", want " + want);
  }

  static void check(boolean ok, String message) {
    if (!ok) {
      throw new AssertionError(message);
    }
  }

  /** The action must fail with this SQLSTATE and not tell the value. */
  static void fails(String state, Action action) {
    try {
      action.run();
    } catch (SQLException e) {
      SQLException last = e.getNextException() == null ? e : e.getNextException();
      if (!Objects.equals(state, last.getSQLState())) {
        throw new AssertionError("got " + last.getSQLState() + ", want " + state, e);
      }
      check(!last.getMessage().contains(Suite.CANARY), "the error tells the value");
      return;
    } catch (Exception e) {
      throw new AssertionError("got another error, want " + state, e);
    }
    throw new AssertionError("got no error, want " + state);
  }
}
