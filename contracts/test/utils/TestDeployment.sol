// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Deployment} from "../../script/Deploy.s.sol";

/// @notice The deployment as a contract of its own, so that not every test contract carries the code of all others.
contract TestDeployment is Deployment {
    function deploy(address governor, address guardian, address treasury, Params memory p) external {
        _deploy(address(this), governor, guardian, treasury, p);
    }
}
