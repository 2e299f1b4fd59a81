# crosvm_library(): the only way to add code. One call per folder of src/.
#
#   crosvm_library(
#     NAME virtio            # also the folder below src/ ("devices/block" for src/devices/block)
#     FLOOR 6                # may depend on strictly lower floors only
#     SOURCES queue.cc …     # without tests, fuzzers and benches
#     DEPS pci memory …      # components
#     LIBS fmt::fmt …        # external libraries, linked publicly
#     TESTS queue_test.cc …
#     TEST_DEPS …            # components (any floor) used by the tests, fuzzers and benches alone
#     TEST_LIBS …
#     FUZZERS ring_fuzzer.cc …   # one libFuzzer binary each; seeds in corpus/<name>/ beside it
#     BENCHES queue_bench.cc …)  # google-benchmark, one binary for the folder
#
# Headers of a component are seen as "component/header.h" through a private view: a directory of links to the
# declared dependencies (and to what those expose) and to nothing else, so an undeclared include does not compile.

function(crosvm_target_name out component)
  string(REPLACE "/" "_" flat ${component})
  set(${out} crosvm_${flat} PARENT_SCOPE)
endfunction()

# Links each component in ARGN into the view directory and puts the view on the include path of `target`.
function(crosvm_make_view target)
  set(view ${CMAKE_BINARY_DIR}/views/${target})
  file(REMOVE_RECURSE ${view})
  file(MAKE_DIRECTORY ${view})
  foreach(component ${ARGN})
    get_filename_component(parent ${component} DIRECTORY)
    if(parent)
      file(MAKE_DIRECTORY ${view}/${parent})
    endif()
    # A component may hold others (arch/, arch/x86_64/); the outer link then already shows the inner one.
    if(NOT EXISTS ${view}/${component})
      file(CREATE_LINK ${CMAKE_SOURCE_DIR}/src/${component} ${view}/${component} SYMBOLIC)
    endif()
  endforeach()
  # -iquote: our folder sys/ must not shadow <sys/…> of the system.
  target_compile_options(${target} PRIVATE "SHELL:-iquote ${view}")
endfunction()

# Sets `out` to the components that `component` and its dependencies expose.
function(crosvm_closure out)
  set(closure "")
  foreach(component ${ARGN})
    get_property(known GLOBAL PROPERTY crosvm_closure_${component} SET)
    if(NOT known)
      message(FATAL_ERROR "component '${component}' is not known here; add it to src/CMakeLists.txt before its users")
    endif()
    get_property(deps GLOBAL PROPERTY crosvm_closure_${component})
    list(APPEND closure ${deps})
  endforeach()
  list(REMOVE_DUPLICATES closure)
  set(${out} "${closure}" PARENT_SCOPE)
endfunction()

function(crosvm_common_options target)
  target_link_libraries(${target} PRIVATE crosvm_compiler)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions>)
  target_compile_definitions(${target} PRIVATE JSON_NOEXCEPTION=1)
endfunction()

# Precompiled headers: what nearly every file reads, of the system only. Tests have one with gtest. (Headers of ours are
# compiled alone and without it, so they still include what they use.)
function(crosvm_add_pch)
  set(headers <fmt/core.h> <algorithm> <array> <atomic> <bit> <chrono> <cstdint> <cstring> <expected> <functional>
              <map> <memory> <mutex> <optional> <span> <string> <string_view> <utility> <variant> <vector>)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/empty/pch.cc CONTENT "")
  add_library(crosvm_pch STATIC ${CMAKE_BINARY_DIR}/empty/pch.cc)
  crosvm_common_options(crosvm_pch)
  target_precompile_headers(crosvm_pch PRIVATE ${headers})
  if(CROSVM_TESTS)
    find_package(GTest REQUIRED)
    file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/empty/test_pch.cc CONTENT "int main() {}\n")
    add_executable(crosvm_test_pch ${CMAKE_BINARY_DIR}/empty/test_pch.cc)
    crosvm_common_options(crosvm_test_pch)
    target_link_libraries(crosvm_test_pch PRIVATE crosvm_test_options GTest::gtest)
    target_precompile_headers(crosvm_test_pch PRIVATE <gtest/gtest.h> ${headers})
  endif()
endfunction()

function(crosvm_library)
  cmake_parse_arguments(
    arg "" "NAME;FLOOR"
    "SOURCES;DEPS;LIBS;TESTS;TEST_DEPS;TEST_LIBS;FUZZERS;BENCHES" ${ARGN})
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "crosvm_library(${arg_NAME}): unknown arguments ${arg_UNPARSED_ARGUMENTS}")
  endif()
  crosvm_target_name(target ${arg_NAME})
  set(dir ${CMAKE_SOURCE_DIR}/src/${arg_NAME})

  foreach(dep ${arg_DEPS})
    get_property(floor GLOBAL PROPERTY crosvm_floor_${dep})
    if("${floor}" STREQUAL "")
      message(FATAL_ERROR "crosvm_library(${arg_NAME}): '${dep}' is not known; is it on a higher floor?")
    endif()
    if(NOT floor LESS arg_FLOOR)
      message(FATAL_ERROR "crosvm_library(${arg_NAME}) on floor ${arg_FLOOR} may not use '${dep}' on floor ${floor}")
    endif()
  endforeach()
  crosvm_closure(closure ${arg_DEPS})
  set_property(GLOBAL PROPERTY crosvm_floor_${arg_NAME} ${arg_FLOOR})
  set_property(GLOBAL PROPERTY crosvm_closure_${arg_NAME} "${closure};${arg_NAME}")
  set_property(GLOBAL APPEND PROPERTY crosvm_components ${arg_NAME})

  list(TRANSFORM arg_SOURCES PREPEND ${dir}/)
  if(NOT arg_SOURCES)
    file(WRITE ${CMAKE_BINARY_DIR}/empty/${target}.cc "")
    set(arg_SOURCES ${CMAKE_BINARY_DIR}/empty/${target}.cc)
  endif()
  add_library(${target} STATIC ${arg_SOURCES})
  crosvm_common_options(${target})
  if(CROSVM_PCH)
    target_precompile_headers(${target} REUSE_FROM crosvm_pch)
  endif()
  crosvm_make_view(${target} ${closure} ${arg_NAME})
  set(dep_targets "")
  foreach(dep ${arg_DEPS})
    crosvm_target_name(dep_target ${dep})
    list(APPEND dep_targets ${dep_target})
  endforeach()
  target_link_libraries(${target} PUBLIC ${dep_targets} ${arg_LIBS})

  if(CROSVM_CHECK_HEADERS)
    file(GLOB headers CONFIGURE_DEPENDS ${dir}/*.h)
    set(checks "")
    foreach(header ${headers})
      get_filename_component(name ${header} NAME)
      set(check ${CMAKE_BINARY_DIR}/header_checks/${target}/${name}.cc)
      file(CONFIGURE OUTPUT ${check} CONTENT "#include \"${arg_NAME}/${name}\"\n")
      list(APPEND checks ${check})
    endforeach()
    if(checks)
      add_library(${target}_headers OBJECT ${checks})
      crosvm_common_options(${target}_headers)
      target_compile_options(${target}_headers PRIVATE -O0 -g0)
      crosvm_make_view(${target}_headers ${closure} ${arg_NAME})
      target_link_libraries(${target}_headers PRIVATE ${arg_LIBS})
    endif()
  endif()

  # Tests may use any component, so they are made once all are known.
  foreach(kind TESTS TEST_DEPS TEST_LIBS FUZZERS BENCHES)
    set_property(GLOBAL PROPERTY crosvm_${kind}_${arg_NAME} "${arg_${kind}}")
  endforeach()
endfunction()

function(crosvm_test_executable name component sources)
  crosvm_target_name(target ${component})
  get_property(test_deps GLOBAL PROPERTY crosvm_TEST_DEPS_${component})
  get_property(test_libs GLOBAL PROPERTY crosvm_TEST_LIBS_${component})
  crosvm_closure(closure ${component} ${test_deps})
  list(TRANSFORM sources PREPEND ${CMAKE_SOURCE_DIR}/src/${component}/)
  add_executable(${name} ${sources})
  crosvm_common_options(${name})
  target_link_libraries(${name} PRIVATE crosvm_test_options)
  crosvm_make_view(${name} ${closure})
  set(dep_targets "")
  foreach(dep ${test_deps})
    crosvm_target_name(dep_target ${dep})
    list(APPEND dep_targets ${dep_target})
  endforeach()
  target_link_libraries(${name} PRIVATE ${target} ${dep_targets} ${test_libs})
endfunction()

# Makes tests, fuzzers and benches of every component; called once, after all folders.
function(crosvm_finish)
  get_property(components GLOBAL PROPERTY crosvm_components)
  if(CROSVM_BENCHES)
    find_package(benchmark REQUIRED)
  endif()
  set(tests "")
  # What continuous integration builds of a preset.
  foreach(group crosvm_tests crosvm_fuzzers crosvm_benches)
    add_custom_target(${group})
  endforeach()
  foreach(component ${components})
    crosvm_target_name(target ${component})
    foreach(kind TESTS FUZZERS BENCHES)
      get_property(${kind} GLOBAL PROPERTY crosvm_${kind}_${component})
    endforeach()

    if(CROSVM_TESTS AND TESTS)
      crosvm_test_executable(${target}_test ${component} "${TESTS}")
      target_link_libraries(${target}_test PRIVATE crosvm_test_main)
      if(CROSVM_PCH)
        target_precompile_headers(${target}_test REUSE_FROM crosvm_test_pch)
      endif()
      add_dependencies(crosvm_tests ${target}_test)
      list(APPEND tests ${target}_test)
      add_test(NAME ${component} COMMAND ${target}_test --gtest_shuffle --gtest_brief=1)
      set_tests_properties(${component} PROPERTIES TIMEOUT 300)
    endif()

    if(CROSVM_FUZZERS)
      foreach(source ${FUZZERS})
        get_filename_component(fuzzer ${source} NAME_WE)
        string(REPLACE "/" "_" flat ${component})
        set(name fuzz_${flat}_${fuzzer})
        crosvm_test_executable(${name} ${component} "${source}")
        target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
        target_link_options(${name} PRIVATE -fsanitize=fuzzer)
        add_dependencies(crosvm_fuzzers ${name})
        set_property(GLOBAL APPEND PROPERTY crosvm_fuzzers
                     "${name} ${CMAKE_SOURCE_DIR}/src/${component}/corpus/${fuzzer}")
      endforeach()
    endif()

    if(CROSVM_BENCHES AND BENCHES)
      crosvm_test_executable(${target}_bench ${component} "${BENCHES}")
      target_sources(${target}_bench PRIVATE ${CMAKE_SOURCE_DIR}/src/testing/bench_main.cc)
      target_link_libraries(${target}_bench PRIVATE benchmark::benchmark)
      add_dependencies(crosvm_benches ${target}_bench)
    endif()
  endforeach()

  # For tools/test.
  list(JOIN tests "\n" lines)
  file(WRITE ${CMAKE_BINARY_DIR}/tests.txt "${lines}\n")
  get_property(fuzzers GLOBAL PROPERTY crosvm_fuzzers)
  list(JOIN fuzzers "\n" lines)
  file(WRITE ${CMAKE_BINARY_DIR}/fuzzers.txt "${lines}\n")
endfunction()
