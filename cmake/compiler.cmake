# Language level, warnings, sanitizers and hardening of every target of ours.

# One cache for all build directories and clones, precompiled headers included.
if(CROSVM_CCACHE OR CMAKE_CXX_COMPILER_LAUNCHER STREQUAL "ccache")
  set(launcher env CCACHE_NOHASHDIR=1 CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}
               CCACHE_SLOPPINESS=pch_defines,time_macros ccache)
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
endif()

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS ON) # statement expressions (TRY)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(THREADS_PREFER_PTHREAD_FLAG ON)
set(CROSVM_SANITIZERS "" CACHE STRING "Comma list for -fsanitize=")

find_package(Threads REQUIRED)

add_library(crosvm_compiler INTERFACE)
target_compile_definitions(crosvm_compiler INTERFACE _GNU_SOURCE _GLIBCXX_ASSERTIONS)
target_compile_options(crosvm_compiler INTERFACE -fno-omit-frame-pointer -g1)
target_link_libraries(crosvm_compiler INTERFACE Threads::Threads)

include(warnings)
target_compile_options(crosvm_compiler INTERFACE ${CROSVM_WARNINGS})

# What tests, fuzzers and benches link after crosvm_compiler, so that its options come last.
add_library(crosvm_test_options INTERFACE)
target_compile_options(crosvm_test_options INTERFACE -Wno-sign-conversion -Wno-conversion
                                                     -Wno-shorten-64-to-32)

if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_link_options(crosvm_compiler INTERFACE -fuse-ld=lld)
  # A precompiled header that came out of the compiler cache has another time.
  target_compile_options(crosvm_compiler INTERFACE "SHELL:-Xclang -fno-pch-timestamp")
endif()

if(CROSVM_SANITIZERS)
  target_compile_options(crosvm_compiler INTERFACE -fsanitize=${CROSVM_SANITIZERS}
                                                   -fno-sanitize-recover=all)
  target_link_options(crosvm_compiler INTERFACE -fsanitize=${CROSVM_SANITIZERS})
  target_compile_definitions(crosvm_compiler INTERFACE CROSVM_SANITIZED=1)
endif()

if(CROSVM_FUZZERS)
  # The libraries count their edges too: a fuzzer that sees only its own file is blind.
  target_compile_options(crosvm_compiler INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(crosvm_compiler INTERFACE -fsanitize=fuzzer-no-link)
endif()

if(CROSVM_HARDENING)
  # CFI schemes that hold with libstdc++ (cfi-unrelated-cast does not: it casts raw storage).
  set(hardening
      -flto=thin
      -fsanitize=cfi-vcall,cfi-nvcall,cfi-derived-cast,cfi-icall,cfi-mfcall
      -fsanitize-trap=cfi)
  target_compile_options(
    crosvm_compiler
    INTERFACE ${hardening} -fstack-protector-strong -ftrivial-auto-var-init=zero
              -fstack-clash-protection -fcf-protection=none -ffunction-sections -fdata-sections)
  target_compile_definitions(crosvm_compiler INTERFACE _FORTIFY_SOURCE=2)
  target_link_options(
    crosvm_compiler INTERFACE ${hardening} -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--gc-sections
    -Wl,--thinlto-cache-dir=${CMAKE_BINARY_DIR}/thinlto-cache)
endif()
