// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PlantsAnswer} from "./answer.t.sol";
import {PlantsAsk} from "./ask.t.sol";
import {PlantsNote} from "./note.t.sol";
import {PlantsReveal} from "./reveal.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract PlantsTest is PlantsNote, PlantsReveal, PlantsAnswer, PlantsAsk {}
