// Where the configured process is remembered for the helpers that exec starts.
#pragma once
#define STATE_FOLDER "/run/berth"
#define PROCESS_FILE STATE_FOLDER "/process.json"
#define PID_FILE STATE_FOLDER "/pid"
#define STAGED_FOLDER STATE_FOLDER "/staged"
