@0xd1e7a5c0b3f49268;
# A minimal interface to exercise the transport in tests and in the benchmark. To regenerate, in this folder:
#   capnp compile -orust:../generated echo.capnp

interface Echo @0x9ad14e50c3f7b821 {
  echo @0 (data :Data) -> (data :Data);
  # Returns what it gets.

  slow @1 (millis :UInt32) -> ();
  # Returns after that time.

  panic @2 () -> ();
  # Panics inside the handler.

  large @3 (bytes :UInt32) -> (data :Data);
  # Returns that many zero bytes.

  fork @4 () -> (echo :Echo);
  # A new object each time.

  admit @5 () -> ();
  # Admits the connection that asks.

  callBack @6 (echo :Echo, data :Data) -> (data :Data);
  # Asks the given object to echo, and returns what it said.
}
