// SPDX-License-Identifier: GPL-3.0-or-later

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Locale;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

/** What comes from outside the session's own statements. */
final class Events extends Session {
  Events(Connection conn, String dir) {
    super(conn, dir);
  }

  void cancel() throws Exception {
    put("cancel", Suite.CANARY);
    run("SET application_name = " + literal(dir));
    try (Statement sleep = conn.createStatement()) {
      Thread watch = new Thread(() -> cancelWhenAsleep(sleep));
      watch.setDaemon(true);
      watch.start();
      Tap.fails("57014", () -> sleep.execute("SELECT pg_sleep(600)"));
      watch.join();
    }
    Tap.equal(Suite.CANARY, read("cancel"));
  }

  private void cancelWhenAsleep(Statement sleep) {
    String asleep = "SELECT count(*) FROM activity WHERE application_name = ? AND wait_event = 'PgSleep'";
    try (Connection watcher = DriverManager.getConnection(Suite.url(), System.getenv("SUPERUSER"), System.getenv("SUPERPASSWORD"));
        PreparedStatement s = watcher.prepareStatement(asleep)) {
      s.setString(1, dir);
      while (number(s) == 0) {
        Thread.onSpinWait();
      }
      sleep.cancel();
    } catch (SQLException e) {
      e.printStackTrace(System.out);
    }
  }

  void notifications() throws SQLException {
    PGConnection pg = conn.unwrap(PGConnection.class);
    String channel = conn.getMetaData().getConnection().unwrap(PGConnection.class).getPreferQueryMode().value().toLowerCase(Locale.ROOT) + "_channel";
    run("LISTEN " + channel, "NOTIFY " + channel + ", 'mine'");
    heard(pg.getNotifications(10_000), "mine", pg.getBackendPID());
    try (Connection other = Suite.connect("simple", "0")) {
      String from = new Session(other, dir).text("SELECT pg_backend_pid() FROM pg_notify('" + channel + "', 'theirs')");
      heard(pg.getNotifications(10_000), "theirs", Integer.parseInt(from));
    }
    run("UNLISTEN *");
  }

  private static void heard(PGNotification[] got, String what, int from) {
    Tap.equal(1, got.length);
    Tap.equal(what, got[0].getParameter());
    Tap.equal(from, got[0].getPID());
  }
}
