// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ContradictionsNote} from "./note.t.sol";
import {ContradictionsProve} from "./prove.t.sol";
import {ContradictionsProveCheckpoints} from "./proveCheckpoints.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract ContradictionsTest is ContradictionsNote, ContradictionsProve, ContradictionsProveCheckpoints {}
