# Flags that every target shares. Warnings are errors with both compilers.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

# Assertions of base/check.h do not depend on NDEBUG; they stay on in every build type.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-O0 -g3 -DSLUICE_SLOW_CHECKS=1")

set(SLUICE_SANITIZE "" CACHE STRING "address, undefined, thread, or empty")
add_compile_options(-Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes
                    -Wvla -Wundef -Wpointer-arith -Wwrite-strings -Wno-unused-parameter
                    -Wno-missing-field-initializers -fno-strict-aliasing -fno-omit-frame-pointer
                    -fstack-protector-strong -fvisibility=hidden)
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT SLUICE_SANITIZE)
  add_compile_options(-D_FORTIFY_SOURCE=2)
endif()
add_compile_definitions(_GNU_SOURCE SLUICE_VERSION="${PROJECT_VERSION}")
if(SLUICE_SANITIZE)
  add_compile_options(-fsanitize=${SLUICE_SANITIZE} -fno-sanitize-recover=all -DSLUICE_SLOW_CHECKS=1)
  add_link_options(-fsanitize=${SLUICE_SANITIZE})
endif()
option(SLUICE_FUZZ "coverage for libFuzzer in all libraries, and the fuzz programs (clang only)" OFF)
if(SLUICE_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang" OR NOT SLUICE_SANITIZE MATCHES "address|undefined")
    message(FATAL_ERROR "SLUICE_FUZZ needs clang and SLUICE_SANITIZE=address or undefined")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
include_directories(${CMAKE_SOURCE_DIR})

# sluice_library(NAME LINKS...) makes sluice_NAME from all sources of the current folder. A file
# called *_main.c is a program's and stays out.
function(sluice_library name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
  list(FILTER sources EXCLUDE REGEX "main\\.c$")
  if(sources)
    add_library(sluice_${name} STATIC ${sources})
    target_link_libraries(sluice_${name} PUBLIC ${ARGN})
  else()
    add_library(sluice_${name} INTERFACE)
    target_link_libraries(sluice_${name} INTERFACE ${ARGN})
  endif()
endfunction()
