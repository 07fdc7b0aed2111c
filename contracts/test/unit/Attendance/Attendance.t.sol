// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AttendanceAttend} from "./attend.t.sol";
import {AttendanceLapse} from "./lapse.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract AttendanceTest is AttendanceAttend, AttendanceLapse {}
