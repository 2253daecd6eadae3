/* `sluice-bench table RESULT.json...`: many results as one table. */
#ifndef SLUICE_BENCH_COMMAND_TABLE_H
#define SLUICE_BENCH_COMMAND_TABLE_H

/* argv[0] is the command's name. Returns an exit code: 0; 1 one of the runs had an anomaly; 2 usage, or a file that is no result. */
int table_main(int argc, char **argv);

#endif
