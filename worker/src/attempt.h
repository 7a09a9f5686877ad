// How functions for Rust answer, in cuda.cpp, fused.cpp and rows.cpp: null, or what went wrong, which stays until the
// thread's next call.

#pragma once

#include <exception>
#include <string>

template <class Work> const char *attempt(Work work) {
  thread_local std::string text;
  try {
    work();
    return nullptr;
  } catch (const std::exception &error) {
    text = error.what();
    return text.c_str();
  }
}
