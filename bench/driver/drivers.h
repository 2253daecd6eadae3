/* All drivers. A library that was missing when this was built leaves its driver out (bench/CMakeLists.txt). */
#ifndef SLUICE_BENCH_DRIVER_DRIVERS_H
#define SLUICE_BENCH_DRIVER_DRIVERS_H

#include "bench/driver/driver.h"

extern const struct bench_driver driver_sluice;          // libsluice
extern const struct bench_driver driver_kafka;           // librdkafka: any server of that protocol
extern const struct bench_driver driver_redis;           // Streams, by hiredis
extern const struct bench_driver driver_nats;            // JetStream, by libnats
extern const struct bench_driver driver_rabbitmq;        // quorum queue, by librabbitmq
extern const struct bench_driver driver_rabbitmq_stream; // stream, by the same

#endif
