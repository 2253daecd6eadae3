/* `sluice-bench compare OLD.json NEW.json`: is the newer result worse? */
#ifndef SLUICE_BENCH_COMMAND_COMPARE_H
#define SLUICE_BENCH_COMMAND_COMPARE_H

/* argv[0] is the command's name. Returns an exit code: 0 nothing got worse by more than the threshold; 1 something did, or a run had
 * an anomaly; 2 usage, a file that is no result, or two results that can't be compared. */
int compare_main(int argc, char **argv);

#endif
