/* Written by hil/link/protocol.py (render_header); tests/unit/test_wire.py checks that it is up to date. */
#ifndef HIL_WIRE_H
#define HIL_WIRE_H

#define HIL_WIRE_VERSION 2u
#define HIL_WIRE_LINE_MAX 319u
#define HIL_WIRE_CHUNK_BYTES 128u
#define HIL_WIRE_SAMPLES_PER_LINE 16u
#define HIL_WIRE_PROFILE_SLOTS 64u
#define HIL_WIRE_INLINE_OUTPUT_BYTES 64u
#define HIL_WIRE_ARENA_GUARD_BYTES 64u

#define HIL_WIRE_TERMINATOR '%'
#define HIL_WIRE_READY "m-ready"
#define HIL_WIRE_UNKNOWN_COMMAND "Unknown command: "
#define HIL_WIRE_FAULT "fault"
#define HIL_WIRE_FRAME_MARK '#'
#define HIL_WIRE_UNREADABLE "Command too long or not text"
#define HIL_WIRE_DAMAGED "Damaged command"

#define HIL_WIRE_CMD_ID "id"
#define HIL_WIRE_CMD_FILL "fill"
#define HIL_WIRE_CMD_PUT "put"
#define HIL_WIRE_CMD_INPUT "input"
#define HIL_WIRE_CMD_GET "get"
#define HIL_WIRE_CMD_RUN "run"
#define HIL_WIRE_CMD_INFER "infer"
#define HIL_WIRE_CMD_PROFILE "profile"
#define HIL_WIRE_CMD_MEMORY "memory"

#define HIL_WIRE_KEY_ID "id"
#define HIL_WIRE_KEY_MAP "map"
#define HIL_WIRE_KEY_INPUT "input"
#define HIL_WIRE_KEY_PUT "put"
#define HIL_WIRE_KEY_DATA "data"
#define HIL_WIRE_KEY_RUN "run"
#define HIL_WIRE_KEY_SILENCE "silence"
#define HIL_WIRE_KEY_TICKS "ticks"
#define HIL_WIRE_KEY_LAYERS "layers"
#define HIL_WIRE_KEY_MEMORY "memory"

#define HIL_WIRE_PATTERN_RANDOM 0u
#define HIL_WIRE_PATTERN_MIN 1u
#define HIL_WIRE_PATTERN_MAX 2u
#define HIL_WIRE_PATTERN_ZERO_POINT 3u
#define HIL_WIRE_PATTERN_ALTERNATING 4u

#endif
