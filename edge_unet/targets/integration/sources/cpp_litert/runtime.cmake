# LiteRT: from -DLITERT_LIBRARY=…/libLiteRt.so, or beside the package of `pip install ai-edge-litert`.
# No headers are needed: litert.h declares the few functions that are used.
if(NOT LITERT_LIBRARY)
  find_program(EDGE_UNET_PYTHON NAMES python3 python)
  if(EDGE_UNET_PYTHON)
    execute_process(
      COMMAND ${EDGE_UNET_PYTHON} -c
        "import importlib.util as u, os; print(os.path.join(os.path.dirname(u.find_spec('ai_edge_litert').origin), 'libLiteRt.so'))"
      OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    set(LITERT_LIBRARY "${found}" CACHE FILEPATH "libLiteRt.so")
  endif()
endif()
if(NOT EXISTS "${LITERT_LIBRARY}")
  message(FATAL_ERROR
    "LiteRT's C library not found; pip install ai-edge-litert, or give -DLITERT_LIBRARY=…/libLiteRt.so")
endif()
target_link_libraries(edge_unet INTERFACE "${LITERT_LIBRARY}")
