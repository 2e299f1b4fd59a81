# crosvm_policy(): compiles a seccomp policy into the program. After the crosvm_library() of the same folder:
#
#   crosvm_policy(COMPONENT devices/block NAME block FILE block.policy)
#
# makes the header "policies/block.h", which defines crosvm::policies::kBlock (a jail::Filter), and lets the component
# include it. Beside the header lies block.rules, the list of what is in the filter, for `tests/e2e/run --policy-usage`.
# Beside FILE may stand block.x86_64.policy and block.aarch64.policy with what only one architecture has. The
# policies of src/jail/policies/ can be included by name; common.ARCH.policy, and sanitizer.policy in a sanitizer build,
# are always part of it.

file(GLOB crosvm_policy_includes CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/jail/policies/*)

# All generated headers: what tools must have built before they read the sources.
add_custom_target(crosvm_generated)

function(crosvm_policy)
  cmake_parse_arguments(arg "" "COMPONENT;NAME;FILE" "" ${ARGN})
  set(dir ${CMAKE_SOURCE_DIR}/src/${arg_COMPONENT})
  set(shared ${CMAKE_SOURCE_DIR}/src/jail/policies)
  set(header ${CMAKE_BINARY_DIR}/generated/policies/${arg_NAME}.h)
  set(rules ${CMAKE_BINARY_DIR}/generated/policies/${arg_NAME}.rules)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/generated/policies)
  get_filename_component(stem ${arg_FILE} NAME_WE)

  set(inputs "")
  set(depends ${dir}/${arg_FILE} ${crosvm_policy_includes})
  foreach(arch x86_64 aarch64)
    list(APPEND inputs --arch ${arch} ${dir}/${arg_FILE} ${shared}/common.${arch}.policy)
    if(EXISTS ${dir}/${stem}.${arch}.policy)
      list(APPEND inputs ${dir}/${stem}.${arch}.policy)
      list(APPEND depends ${dir}/${stem}.${arch}.policy)
    endif()
    if(CROSVM_SANITIZERS)
      list(APPEND inputs ${shared}/sanitizer.policy ${shared}/sanitizer.${arch}.policy)
    endif()
  endforeach()
  add_custom_command(
    OUTPUT ${header} ${rules}
    COMMAND crosvm_policy_compiler --include ${shared} --header ${header} --name ${arg_NAME} --source
            src/${arg_COMPONENT}/${arg_FILE} --rules ${rules} ${inputs}
    DEPENDS crosvm_policy_compiler ${depends}
    COMMENT "Compiling policy ${arg_NAME}"
    VERBATIM)
  crosvm_target_name(target ${arg_COMPONENT})
  add_custom_target(${target}_policy_${arg_NAME} DEPENDS ${header})
  add_dependencies(crosvm_generated ${target}_policy_${arg_NAME})
  target_sources(${target} PRIVATE ${header})
  target_compile_options(${target} PRIVATE "SHELL:-iquote ${CMAKE_BINARY_DIR}/generated")
endfunction()
