# What the extension's description file would hold.
file(WRITE "${CMAKE_BINARY_DIR}/extension.txt" "")
foreach(key HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  file(APPEND "${CMAKE_BINARY_DIR}/extension.txt" "${key} ${EXTENSION_${key}}\n")
endforeach()
file(APPEND "${CMAKE_BINARY_DIR}/extension.txt" "NAME ${PROJECT_NAME}\n")
