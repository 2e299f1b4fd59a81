# The one list of warnings; all are errors.
set(CROSVM_WARNINGS
    -Wall
    -Wextra
    -Werror
    -Wconversion
    -Wsign-conversion
    -Wshadow
    -Wold-style-cast
    -Wcast-align
    -Wcast-qual
    -Wnon-virtual-dtor
    -Woverloaded-virtual
    -Wnull-dereference
    -Wformat=2
    -Wundef
    -Wvla
    -Wimplicit-fallthrough
    -Wno-missing-field-initializers)

if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  list(APPEND CROSVM_WARNINGS -Wthread-safety -Wthread-safety-beta -Wshorten-64-to-32
       -Wunreachable-code -Wno-unknown-warning-option -Wno-gnu-statement-expression
       -Wno-unqualified-std-cast-call -Wno-missing-designated-field-initializers)
else()
  # g++ 12 reports false positives of these through inlined library code.
  list(APPEND CROSVM_WARNINGS -Wno-null-dereference -Wno-maybe-uninitialized -Wno-stringop-overflow
       -Wno-array-bounds -Wno-restrict -Wno-dangling-pointer -Wno-free-nonheap-object)
endif()
