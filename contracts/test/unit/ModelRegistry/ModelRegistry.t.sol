// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ModelRegistryDeprecate} from "./deprecate.t.sol";
import {ModelRegistrySetPayout} from "./setPayout.t.sol";
import {ModelRegistryRegister} from "./register.t.sol";
import {ModelRegistryCommit} from "./commit.t.sol";
import {ModelRegistryCanCut} from "./canCut.t.sol";
import {ModelRegistryAttestTolerance} from "./attestTolerance.t.sol";
import {ModelRegistryPublishTolerance} from "./publishTolerance.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract ModelRegistryTest is
    ModelRegistryDeprecate,
    ModelRegistrySetPayout,
    ModelRegistryRegister,
    ModelRegistryCommit,
    ModelRegistryCanCut,
    ModelRegistryAttestTolerance,
    ModelRegistryPublishTolerance
{}
