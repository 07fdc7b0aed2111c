// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PlantsAnswer} from "./answer.t.sol";
import {PlantsAsk} from "./ask.t.sol";
import {PlantsClose} from "./close.t.sol";
import {PlantsNote} from "./note.t.sol";
import {PlantsReveal} from "./reveal.t.sol";
import {PlantsWithdraw} from "./withdraw.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract PlantsTest is PlantsAnswer, PlantsAsk, PlantsClose, PlantsNote, PlantsReveal, PlantsWithdraw {}
