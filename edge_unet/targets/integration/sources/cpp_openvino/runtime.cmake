# OpenVINO: from -DOpenVINO_DIR=…, from the environment (setupvars.sh), or beside the package of `pip install openvino`.
if(NOT OpenVINO_DIR AND NOT DEFINED ENV{OpenVINO_DIR})
  find_program(EDGE_UNET_PYTHON NAMES python3 python)
  if(EDGE_UNET_PYTHON)
    execute_process(
      COMMAND ${EDGE_UNET_PYTHON} -c
        "import importlib.util as u, os; print(os.path.join(os.path.dirname(u.find_spec('openvino').origin), 'cmake'))"
      OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    set(OpenVINO_DIR "${found}" CACHE PATH "folder of OpenVINOConfig.cmake")
  endif()
endif()
find_package(OpenVINO QUIET COMPONENTS Runtime)
if(NOT OpenVINO_FOUND)
  message(FATAL_ERROR
    "OpenVINO not found; pip install openvino (it holds headers and libraries), or give -DOpenVINO_DIR=FOLDER")
endif()
target_link_libraries(edge_unet INTERFACE openvino::runtime)
